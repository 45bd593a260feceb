// What computes a surface: its TorchScript, or the package that AOTInductor compiled of it.
#pragma once

#include <ATen/Version.h>
#include <ATen/ops/full.h>
#include <caffe2/serialize/in_memory_adapter.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "towerspec/inputs.hpp"
#include "towerspec/json.hpp"
#include "towerspec/sharing.hpp"

namespace towerspec {

/// From a call's tensors to its predictions, both in the manifest's order; threads may share one.
using Compute = std::function<std::vector<at::Tensor>(std::vector<at::Tensor>)>;

/// How many tensors a graph takes, and how many it gives.
struct Signature {
  std::size_t takes, gives;

  /// Throws std::runtime_error where a graph has another one.
  void check(const Signature& graph) const {
    if (graph.takes == takes && graph.gives == gives) return;
    throw std::runtime_error("it takes " + std::to_string(graph.takes) + " inputs and gives " +
                             std::to_string(graph.gives) + " outputs, and the manifest names " + std::to_string(takes) +
                             " and " + std::to_string(gives));
  }
};

/// An archive's bytes as libtorch reads them; they are to outlive the reader.
inline auto archive_of(std::string_view bytes) {
  return std::make_shared<caffe2::serialize::MemoryReadAdapter>(bytes.data(), static_cast<off_t>(bytes.size()));
}

/// What a module's `forward` takes and gives. Throws std::runtime_error where it gives no tuple of tensors.
inline Signature signature_of(const torch::jit::Module& module) {
  const auto forward = module.find_method("forward");
  if (!forward) throw std::runtime_error("it has no `forward`");
  const auto& schema = forward->function().getSchema();
  const auto tuple = schema.returns().at(0).type()->cast<c10::TupleType>();
  const auto tensor = [](const auto& type) { return type->kind() == c10::TypeKind::TensorType; };
  if (!tuple || !std::all_of(tuple->elements().begin(), tuple->elements().end(), tensor)) {
    throw std::runtime_error("its `forward` returns no tuple of tensors");
  }
  return {schema.arguments().size() - 1, tuple->elements().size()};  // but for `self`
}

/// A surface's TorchScript, which shares its weights with those of the pool. Throws what libtorch does.
inline Compute load_script(std::string_view content, const Signature& signature, at::Device device, Pool& pool) {
  auto loaded = torch::jit::load(archive_of(content), device);
  loaded.eval();
  signature.check(signature_of(loaded));
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

/// A new folder of this process alone, removed with all that is in it.
class PrivateFolder {
 public:
  PrivateFolder() : path_((std::filesystem::temp_directory_path() / "towerspec-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("`" + path_ + "` can't be made");
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  ~PrivateFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path path() const { return path_; }

 private:
  std::string path_;
};

/// Puts a package's compiled code into a folder; the path of its library. Throws where there is none.
inline std::filesystem::path unpack(std::string_view content, const std::filesystem::path& folder) {
  static constexpr std::string_view inside = "data/aotinductor/model/";  // where torch puts it
  caffe2::serialize::PyTorchStreamReader archive(archive_of(content));
  std::filesystem::path library;
  for (const auto& record : archive.getAllRecords()) {
    const auto name = std::filesystem::path(record).filename();
    if (record.find(inside) == std::string::npos || name.empty() || name.extension() == ".cpp") continue;
    const auto [data, size] = archive.getRecord(record);
    std::ofstream file(folder / name, std::ios::binary);
    file.write(static_cast<const char*>(data.get()), static_cast<std::streamsize>(size));
    file.close();
    if (!file) throw std::runtime_error("`" + (folder / name).string() + "` can't be written");
    if (name.extension() == ".so") library = folder / name;
  }
  if (library.empty()) throw std::runtime_error("it holds no compiled model");
  return library;
}

/// How many tensors a tree of torch.utils._pytree, as JSON, has.
inline std::size_t leaves(const json::Value& spec) {
  if (spec.at("type").is(json::Value::Kind::null)) return 1;
  std::size_t found = 0;
  for (const auto& child : spec.at("children_spec").items) found += leaves(child);
  return found;
}

/// A surface's AOTInductor package. By libtorch's own loader, the folder that it unpacks into would stay where loading
/// fails, and while it serves. Throws what libtorch does.
inline Compute load_package(std::string_view content, const Signature& signature, const std::vector<Input>& inputs) {
  const auto at_once = std::max(1U, std::thread::hardware_concurrency());  // more calls wait
  const PrivateFolder folder;
  const auto library = unpack(content, folder.path()).string();
  const auto runner = std::make_shared<torch::inductor::AOTIModelContainerRunnerCpu>(library, at_once);
  const auto specs = runner->get_call_spec();
  const auto count = [&](std::size_t i) { return leaves(json::parse(specs.at(i)).items.at(1)); };
  signature.check({count(0), count(1)});
  return [runner, counts = Counts(inputs)](std::vector<at::Tensor> tensors) {
    counts.add(tensors);
    return runner->boxed_run(std::move(tensors));
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
