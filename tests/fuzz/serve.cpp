// Answers requests for the fuzzer: a line of standard input names a build, a surface and an inputs file, with tabs
// between them; a line of standard output says what became of it.

#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "towerspec/files.hpp"
#include "towerspec/towerspec.hpp"

namespace {

// Every output's shape and sum, so that what lies in its memory is read.
std::string answer(const std::string& build, const std::string& name, const std::string& file) {
  const towerspec::Bundle bundle(build);
  const auto surface = bundle.surface(name);
  if (file.empty()) return "loaded";
  std::ostringstream said;
  said.precision(9);
  said << "ok";
  for (const auto& [head, scores] : surface(towerspec::read_inputs(file, surface))) {
    said << ' ' << head << ' ' << scores.size(0) << ' ' << scores.sum().item<float>();
  }
  return std::move(said).str();
}

std::string one_line(std::string text) {
  for (auto& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string build, surface, file;
    std::getline(words, build, '\t');
    std::getline(words, surface, '\t');
    std::getline(words, file, '\t');
    try {
      std::cout << answer(build, surface, file) << std::endl;
    } catch (const towerspec::Error& error) {
      std::cout << "refused " << error.code() << std::endl;
    } catch (const std::exception& error) {
      std::cout << "escaped " << one_line(error.what()) << std::endl;
    } catch (...) {
      std::cout << "escaped something that is no exception" << std::endl;
    }
  }
}
