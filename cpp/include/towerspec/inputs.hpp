// A surface's inputs at the boundary: checked as Python checks them, with the same codes and words.
#pragma once

#include <torch/script.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "towerspec/entries.hpp"
#include "towerspec/error.hpp"
#include "towerspec/tensors.hpp"
#include "towerspec/vocabulary.hpp"

namespace towerspec {

using Inputs = std::map<std::string, at::Tensor>;

/// Checks a call's inputs and brings them into call order.
class Boundary {
 public:
  Boundary() = default;
  Boundary(std::string surface, std::vector<Input> inputs, at::Device device = at::kCPU)
      : surface_(std::move(surface)), inputs_(std::move(inputs)), device_(device) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) places_.emplace(inputs_[i].name, i);
  }

  const std::vector<Input>& inputs() const { return inputs_; }

  /// Where the surface computes, and its inputs' tensors must be.
  at::Device device() const { return device_; }

  /// The tensors in call order. With `strict`, an id without a row of its own and a number that is not finite are
  /// errors; without it they take the meaning that the spec gives them. Throws Error, T702 to T707.
  std::vector<at::Tensor> prepare(const Inputs& given, bool strict) const {
    check_names(given);
    std::vector<Ready> ready;
    for (const auto& input : inputs_) {
      const auto found = given.find(input.name);
      if (found == given.end()) continue;
      ready.push_back({&input, fit(input, [&] { return measured(input, found->second, device_); })});
    }
    const auto rows = check_rows(ready);
    for (auto& [input, x] : ready) x = fit(*input, [&, of = input, &from = x] { return converted(*of, from); });
    if (rows.size() == 2) check_counts(ready, rows.at("R"), rows.at("N"));
    std::vector<at::Tensor> ordered;
    for (const auto& [input, x] : ready) {
      ordered.push_back(input->vocabulary ? input->vocabulary->look_up(x) : x);
      if (strict) check_values(*input, ordered.back());
    }
    return ordered;
  }

  /// Whether the names are those of the inputs: of a map, or of a list of pairs. Throws Error, T702 or T703.
  template <class Named>
  void check_names(const Named& given) const {
    std::vector<bool> there(inputs_.size());
    for (const auto& [name, value] : given) {
      const auto found = places_.find(name);
      if (found == places_.end()) throw fail("T703", "there is no input `" + name + "`", {known()});
      there[found->second] = true;
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (there[i] || inputs_[i].optional) continue;
      throw fail("T702", "the input `" + inputs_[i].name + "` is missing", {known()});
    }
  }

  /// What a value becomes. Throws Error where it is unfit, or torch has no room for it.
  template <class Change>
  at::Tensor fit(const Input& input, const Change& change) const {
    try {
      return change();
    } catch (const Unfit& unfit) {
      throw wrong(input, unfit);
    } catch (const std::exception&) {  // of torch, or of the memory
      throw wrong(input, {"T704", "can't be read"});
    }
  }

 private:
  struct Ready {
    const Input* input;
    at::Tensor x;
  };

  Error fail(const std::string& code, const std::string& message, const std::vector<std::string>& notes = {},
             const std::string& help = "") const {
    return Error(code, "surface `" + surface_ + "`: " + message, notes, help);
  }

  Error wrong(const Input& input, const Unfit& unfit) const {
    return fail(unfit.code, "the input `" + input.name + "` " + unfit.what,
                {"it takes " + (unfit.code == "T705" ? input.shape() : input.takes())}, input.wanted());
  }

  std::string known() const {
    std::vector<std::string> names;
    for (const auto& input : inputs_) names.push_back(input.name);
    return "its inputs are " + listing(names);
  }

  /// How many rows each level has, by its axis.
  std::map<std::string, std::int64_t> check_rows(const std::vector<Ready>& ready) const {
    std::map<std::string, std::int64_t> counts;
    std::map<std::string, std::string> first;  // by row axis: the first input
    for (const auto& [input, x] : ready) {
      const auto rows = x.size(0), count = counts.emplace(input->rows, rows).first->second;
      const auto& name = first.emplace(input->rows, input->name).first->second;
      if (rows == count) continue;
      throw fail("T706", "the input `" + input->name + "` has " + counted(rows) + ", and `" + name + "` has " +
                             counted(count),
                 {"inputs of one level have one row for each " + input->level});
    }
    return counts;
  }

  static std::string counted(std::int64_t rows) { return std::to_string(rows) + (rows == 1 ? " row" : " rows"); }

  void check_counts(const std::vector<Ready>& ready, std::int64_t r, std::int64_t n) const {
    const std::string candidates = std::to_string(n) + " candidates";
    if (r == 0 && n > 0) throw fail("T706", "there are " + candidates + " and no request");
    if (!ready.back().input->counts()) {  // they come last
      if (r == 1 || r == n) return;
      throw fail("T706", std::to_string(r) + " requests have " + candidates + ", and nothing says which belong to which",
                 {}, std::string("give `") + counts_name + "`, the number of candidates of each request");
    }
    const auto held = ready.back().x.cpu();
    const auto* counts = held.const_data_ptr<std::int64_t>();
    const std::string name = std::string("`") + counts_name + "`", there = ", and there are " + candidates;
    std::int64_t sum = 0;
    for (std::int64_t row = 0; row < r; ++row) {  // none is above n, so that their sum doesn't wrap around
      if (counts[row] < 0 || counts[row] > n) {
        throw fail("T706", name + " holds " + std::to_string(counts[row]) + " in row " + std::to_string(row) + there);
      }
      sum += counts[row];
    }
    if (sum != n) throw fail("T706", name + " adds up to " + std::to_string(sum) + there);
  }

  void check_values(const Input& input, const at::Tensor& x) const {
    if (!input.whole) {
      const auto bad = at::nonzero(at::logical_not(at::isfinite(x)));
      if (bad.size(0) == 0) return;
      throw fail("T707", "the input `" + input.name + "` is not finite in row " + row(bad));
    }
    if (!input.ranged) return;
    const auto low = input.listed() ? padding : input.low;
    const auto bad = at::nonzero(at::logical_or(x.lt(low), x.gt(input.high)));
    if (bad.size(0) == 0) return;
    throw fail("T707", "the input `" + input.name + "` has an id out of range in row " + row(bad),
               {"ids go from " + std::to_string(input.low) + " to " + std::to_string(input.high)});
  }

  static std::string row(const at::Tensor& bad) { return std::to_string(bad[0][0].item<std::int64_t>()); }

  std::string surface_;
  std::vector<Input> inputs_;
  at::Device device_ = at::kCPU;
  std::unordered_map<std::string, std::size_t> places_;  // in `inputs_`, by name
};

}  // namespace towerspec
