// How many of the ids that a surface is called with its tables know.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "towerspec/entries.hpp"

namespace towerspec {

/// How many ids of an input were known, and how many not; `missing` counts rows without any.
struct Seen {
  std::int64_t known = 0, unknown = 0, missing = 0;

  /// Whether more ids were unknown than known: those of another log's, of another kind, or of another day's.
  bool mostly_unknown() const { return unknown > known; }
};

/// Counts the ids of a surface's calls: of the first 100, then of one in 16. Several threads may add.
class Statistics {
 public:
  /// A call's inputs, as the graph takes them.
  void add(const std::vector<Input>& inputs, const std::vector<at::Tensor>& tensors) {
    static constexpr std::uint64_t first = 100, every = 16;
    const auto call = calls_++;
    if (call >= first && call % every != 0) return;
    std::map<std::string, Seen> found;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (inputs[i].whole && !inputs[i].counts()) found[inputs[i].name] = seen(inputs[i], tensors[i]);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [name, more] : found) {
      auto& sum = seen_[name];
      sum = {sum.known + more.known, sum.unknown + more.unknown, sum.missing + more.missing};
    }
  }

  /// What was counted so far, by input.
  std::map<std::string, Seen> seen() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return seen_;
  }

 private:
  static std::int64_t count(const at::Tensor& x) { return at::count_nonzero(x).item<std::int64_t>(); }

  static Seen seen(const Input& input, const at::Tensor& x) {
    const auto there = input.hashed ? x.ne(padding) : x.ge(0);
    const auto unknown = input.ranged ? count(x.gt(input.high)) : 0;
    const auto rows = input.listed() ? there.any(1) : there;
    return {count(there) - unknown, unknown, x.size(0) - count(rows)};
  }

  std::atomic<std::uint64_t> calls_{0};
  mutable std::mutex mutex_;
  std::map<std::string, Seen> seen_;
};

}  // namespace towerspec
