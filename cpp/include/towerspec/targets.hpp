// What computes a surface: its TorchScript, or the package that AOTInductor compiled of it.
#pragma once

#include <ATen/Version.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "towerspec/inputs.hpp"
#include "towerspec/sharing.hpp"

namespace towerspec {

/// From a call's tensors to its predictions, both in the manifest's order; threads may share one.
using Compute = std::function<std::vector<at::Tensor>(std::vector<at::Tensor>)>;

/// A surface's TorchScript file, which shares its weights with those of the pool. Throws c10::Error.
inline Compute load_script(const std::filesystem::path& file, at::Device device, Pool& pool) {
  auto loaded = torch::jit::load(file.string(), device);
  loaded.eval();
  pool.share(loaded);
  return [loaded](std::vector<at::Tensor> tensors) {
    // The compiler has optimised the graph. TorchScript's executor would do so again while it serves: hundreds of
    // milliseconds for the first calls, and more of them whenever shapes change. The switch is this thread's.
    const torch::jit::GraphOptimizerEnabledGuard compiled(false);
    auto module = loaded;  // `forward` is not const; a copy shares the graph and its constants
    const auto results = module.forward({tensors.begin(), tensors.end()}).toTuple();
    std::vector<at::Tensor> found;
    for (const auto& result : results->elements()) found.push_back(result.toTensor());
    return found;
  };
}

/// A package always takes `candidates_per_request`: adds it where one request has all candidates, or each has one.
class Counts {
 public:
  explicit Counts(const std::vector<Input>& inputs) : inputs_(inputs.size()) {
    const auto first = [&](const char* rows) {
      const auto found = std::find_if(inputs.begin(), inputs.end(), [&](const auto& input) { return input.rows == rows; });
      return static_cast<std::size_t>(found - inputs.begin());
    };
    request_ = first("R");
    candidate_ = first("N");
    needed_ = !inputs.empty() && inputs.back().name == counts_name;
  }

  void add(std::vector<at::Tensor>& tensors) const {
    if (!needed_) return;
    const auto r = tensors[request_].size(0), n = tensors[candidate_].size(0);
    if (r != 1 && tensors.size() == inputs_) return;
    tensors.resize(inputs_ - 1);
    tensors.push_back(at::full({r}, r == 1 ? n : 1, tensors[request_].options().dtype(at::kLong)));
  }

 private:
  std::size_t inputs_, request_ = 0, candidate_ = 0;
  bool needed_ = false;
};

/// A surface's AOTInductor package. Throws c10::Error.
inline Compute load_package(const std::filesystem::path& file, const std::vector<Input>& inputs) {
  const auto at_once = std::max(1U, std::thread::hardware_concurrency());  // more calls wait
  const auto loader =
      std::make_shared<torch::inductor::AOTIModelPackageLoader>(file.string(), "model", false, at_once);
  return [loader, counts = Counts(inputs)](std::vector<at::Tensor> tensors) {
    counts.add(tensors);
    return loader->boxed_run(std::move(tensors));
  };
}

/// Whether this machine's CPU has what a package was compiled for; another one would end the process.
inline bool runs_here(const std::string& capability) {
  static constexpr std::array<const char*, 3> least_first{"DEFAULT", "AVX2", "AVX512"};
  const auto rank = [](const std::string& word) { return std::find(least_first.begin(), least_first.end(), word); };
  const auto here = at::get_cpu_capability();
  const bool known = rank(capability) != least_first.end() && rank(here) != least_first.end();
  return known ? rank(capability) <= rank(here) : capability == here;
}

}  // namespace towerspec
