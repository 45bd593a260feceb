// Loads builds as its standard input says, one line of output for each line:
//
//   load FOLDER     all surfaces of a new bundle, called: their predictions, or the error
//   open FOLDER     a bundle that stays: `opened`, or the error
//   call            all surfaces of the bundle that stays, called
//   sha256 FILE     the file's digest
//
// An exception that is not the reader's own ends the process.

#include <ATen/Parallel.h>

#include <iomanip>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>

#include "towerspec/towerspec.hpp"

namespace {

// Inputs of the right types and shapes for one request and three candidates, the same ones each time.
towerspec::Inputs inputs_of(const towerspec::Surface& surface) {
  towerspec::Inputs inputs;
  for (const auto& input : surface.inputs()) {
    if (input.optional) continue;
    std::vector<std::int64_t> shape{input.rows == "R" ? 1 : 3};
    shape.insert(shape.end(), input.sizes.begin(), input.sizes.end());
    const bool sound = std::all_of(shape.begin(), shape.end(), [](auto size) { return 0 <= size && size < 1000; });
    if (sound && shape.size() < 4) inputs[input.name] = at::ones(shape, input.whole ? at::kLong : at::kFloat);
  }
  return inputs;
}

// What a bundle's surfaces predict; `strided` or `shared` where a caller can't take a prediction for an array of its own.
std::string called(const towerspec::Bundle& bundle) {
  std::ostringstream text;
  for (const auto& name : bundle.surfaces()) {
    const auto surface = bundle.surface(name);
    std::vector<const void*> places;
    for (const auto& [head, scores] : surface(inputs_of(surface))) {
      if (scores.strides() != at::empty(scores.sizes()).strides()) text << "strided ";
      const auto* place = scores.storage().data();
      if (std::find(places.begin(), places.end(), place) != places.end()) text << "shared ";
      places.push_back(place);
      const auto* data = scores.const_data_ptr<float>();
      for (std::int64_t i = 0; i < scores.numel(); ++i) text << std::setprecision(9) << data[i] << ' ';
    }
  }
  return text.str();
}

}  // namespace

int main() {
  at::set_num_threads(1);
  std::optional<towerspec::Bundle> kept;
  for (std::string line; std::getline(std::cin, line);) {
    const auto word = line.substr(0, line.find(' '));
    const auto rest = line.substr(std::min(line.size(), word.size() + 1));
    try {
      if (word == "load") {
        std::cout << called(towerspec::Bundle(rest));
      } else if (word == "open") {
        kept.emplace(rest);
        std::cout << "opened";
      } else if (word == "call") {
        std::cout << called(kept.value());
      } else {
        std::cout << towerspec::sha256(towerspec::read_file(rest, "T701"));
      }
    } catch (const towerspec::Error& error) {
      const std::string text = error.what();
      std::cout << text.substr(0, text.find('\n'));
    }
    std::cout << std::endl;
  }
}
