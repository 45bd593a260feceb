// Scores the candidates of an inputs file on one surface of a build, and prints the predictions as JSON.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "towerspec/files.hpp"
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

int score(const std::string& build, const std::string& name, const std::string& file, const std::string& target,
          bool strict) {
  const auto surface = towerspec::Bundle(build, at::kCPU, target).surface(name);
  const auto outputs = surface(towerspec::read_inputs(file, surface), strict);
  std::cout << '{';
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    std::cout << (i > 0 ? ",\n " : "\n ") << '"' << outputs[i].first << "\": ";
    const auto scores = outputs[i].second.cpu().contiguous();
    const float* data = scores.data_ptr<float>();
    write(data, scores.sizes());
  }
  std::cout << "\n}\n";
  return 0;
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
  std::vector<std::string> words(argv + 1, argv + argc);
  const bool strict = take(words, "--strict");
  const bool aoti = take(words, "--aoti");
  if (words.size() != 3) {
    std::cerr << "usage: towerspec_score [--strict] [--aoti] BUILD SURFACE INPUTS\n\n"
                 "BUILD is a folder that `towerspec compile` wrote, INPUTS a .json or .safetensors file of inputs by name.\n"
                 "--aoti runs the package that `towerspec compile --target aoti` added.\n"
                 "Prints the predictions by head, as JSON.\n";
    return 2;
  }
  try {
    return score(words[0], words[1], words[2], aoti ? "aoti" : "torchscript", strict);
  } catch (const towerspec::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
