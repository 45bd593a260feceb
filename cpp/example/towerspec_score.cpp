// Scores the candidates of an inputs file on a surface of a build, and prints the predictions as JSON.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "towerspec/files.hpp"
#include "towerspec/memory.hpp"
#include "towerspec/towerspec.hpp"

namespace {

// The shortest text that reads back as the same float; null for not-a-number, which JSON can't say.
void write(float x) {
  if (std::isnan(x)) {
    std::cout << "null";
  } else if (std::isinf(x)) {
    std::cout << (x > 0 ? "1e999" : "-1e999");  // reads back as infinity
  } else {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, x).ptr;
    std::cout.write(text, end - text);
  }
}

// One axis of a tensor after another; `data` moves on through its values.
void write(const float*& data, at::IntArrayRef shape) {
  if (shape.empty()) return write(*data++);
  std::cout << '[';
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    if (i > 0) std::cout << ", ";
    write(data, shape.slice(1));
  }
  std::cout << ']';
}

void score(const towerspec::Surface& surface, const std::string& file, bool strict) {
  const auto outputs = surface(towerspec::read_inputs(file, surface), strict);
  std::cout << '{';
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    std::cout << (i > 0 ? ",\n " : "\n ") << '"' << outputs[i].first << "\": ";
    const auto scores = outputs[i].second.cpu();
    const float* data = scores.const_data_ptr<float>();
    write(data, scores.sizes());
  }
  std::cout << "\n}\n";
}

// Whether a flag is among the words; takes it out.
bool take(std::vector<std::string>& words, const char* flag) {
  const auto found = std::find(words.begin(), words.end(), flag);
  const bool there = found != words.end();
  if (there) words.erase(found);
  return there;
}

}  // namespace

int main(int argc, char** argv) {
  towerspec::keep_memory();
  std::vector<std::string> words(argv + 1, argv + argc);
  const bool strict = take(words, "--strict");
  const bool aoti = take(words, "--aoti");
  if (words.size() < 3 || words.size() % 2 == 0) {
    std::cerr << "usage: towerspec_score [--strict] [--aoti] BUILD SURFACE INPUTS [SURFACE INPUTS]...\n\n"
                 "BUILD is a folder that `towerspec compile` wrote, INPUTS a .json or .safetensors file of inputs by name.\n"
                 "--aoti runs the package that `towerspec compile --target aoti` added.\n"
                 "Prints the predictions by head, as JSON, for one surface after another.\n";
    return 2;
  }
  try {
    const towerspec::Bundle bundle(words[0], at::kCPU, aoti ? "aoti" : "torchscript");
    std::vector<towerspec::Surface> surfaces;
    for (std::size_t i = 1; i < words.size(); i += 2) surfaces.push_back(bundle.surface(words[i]));
    for (std::size_t i = 0; i < surfaces.size(); ++i) score(surfaces[i], words[2 + 2 * i], strict);
    return 0;
  } catch (const towerspec::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
