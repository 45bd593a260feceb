// Times calls of a surface on input files, in the order given: prints each call's milliseconds, one a line.
//
//   tail BUILD SURFACE loader|plain FILE... -- INDEX...

#include <ATen/Parallel.h>
#include <time.h>

#include <iostream>
#include <string>
#include <vector>

#include "towerspec/files.hpp"
#include "towerspec/towerspec.hpp"

namespace {

// What this thread has computed: on one thread, a call's time without its waits for a core.
double milliseconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  at::set_num_threads(1);
  const auto surface = towerspec::Bundle(words[0]).surface(words[1]);
  auto module = torch::jit::load(words[0] + "/surfaces/" + words[1] + ".pt");
  module.eval();
  const bool plain = words[2] == "plain";
  std::vector<towerspec::Inputs> inputs;
  std::vector<std::vector<c10::IValue>> tensors;
  std::size_t at = 3;
  for (; words[at] != "--"; ++at) {
    inputs.push_back(towerspec::read_inputs(words[at], surface));
    std::vector<c10::IValue> ordered;
    for (const auto& input : surface.inputs()) ordered.emplace_back(inputs.back().at(input.name));
    tensors.push_back(ordered);
  }
  const c10::InferenceMode guard;
  for (++at; at < words.size(); ++at) {
    const auto index = std::stoul(words[at]);
    const auto start = milliseconds();
    if (plain) {
      module.forward(tensors[index]);
    } else {
      surface(inputs[index]);
    }
    std::cout << milliseconds() - start << '\n';
  }
}
