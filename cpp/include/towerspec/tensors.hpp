// One input's tensor as a caller has it, as the tensor that the graph takes; docs/inputs.md has the rules.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "towerspec/entries.hpp"

namespace towerspec {

/// What is wrong with an input's value, as the end of a sentence, and the code of the error.
struct Unfit {
  std::string code, what;
};

/// The words that Python uses for a type.
inline std::string type_name(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

/// How many bytes of its storage a strided tensor's rows reach to.
inline std::uint64_t reaches(const at::Tensor& x) {
  if (x.numel() == 0) return 0;
  std::uint64_t last = static_cast<std::uint64_t>(x.storage_offset()) + 1;
  for (std::int64_t axis = 0; axis < x.dim(); ++axis) {
    last += static_cast<std::uint64_t>(x.size(axis) - 1) * static_cast<std::uint64_t>(x.stride(axis));
  }
  return last * x.element_size();
}

/// A tensor whose memory is what its shape says. Throws Unfit where that can't be had, as of a sparse one.
inline at::Tensor plain(const at::Tensor& x, at::Device device) {
  const auto refuse = [](const std::string& what) { throw Unfit{"T704", "is " + what}; };
  if (!x.defined()) refuse("undefined");
  if (x.is_nested()) refuse("nested");
  if (x.unsafeGetTensorImpl()->is_python_dispatch()) refuse("a tensor of Python's");
  if (x.is_quantized()) refuse("quantised");
  if (x.is_meta()) refuse("without memory, on the device `meta`");
  if (x.layout() == at::kMkldnn) refuse("laid out for oneDNN");
  if (x.layout() != at::kStrided) refuse("sparse");
  if (x.device().type() != device.type() || (device.has_index() && x.device() != device)) {
    refuse("on the device `" + x.device().str() + "`, and the surface on `" + device.str() + "`");
  }
  if (!x.has_storage() || reaches(x) > x.storage().nbytes()) refuse("larger than its memory");
  const auto resolved = x.is_neg() ? x.resolve_neg() : x;
  return resolved.requires_grad() ? resolved.detach() : resolved;
}

/// Up to which power of two a type of floats has all whole numbers; 0 for other types.
inline int exact_bits(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return 53;
    case at::kFloat: return 24;
    case at::kHalf: return 11;
    case at::kBFloat16: return 8;
    default: return 0;
  }
}

/// Whether an input takes tensors of a type.
inline bool takes_type(const Input& input, at::ScalarType type) {
  switch (type) {
    case at::kLong: case at::kInt: case at::kShort: case at::kChar:
    case at::kByte: case at::kUInt16: case at::kUInt32: case at::kUInt64: return true;
    case at::kBool: return !input.whole;
    default: return exact_bits(type) > 0;
  }
}

/// A tensor of an input's shape, in any accepted type. Throws Unfit.
inline at::Tensor measured(const Input& input, const at::Tensor& given, at::Device device) {
  const auto x = plain(given, device);
  if (!takes_type(input, x.scalar_type())) throw Unfit{"T704", "has the type " + type_name(x.scalar_type())};
  std::vector<std::int64_t> wanted{x.dim() > 0 ? x.size(0) : 0};
  wanted.insert(wanted.end(), input.sizes.begin(), input.sizes.end());
  if (x.dim() == 1 && x.size(0) == 0) return x.reshape(wanted);  // no rows have the right width, whatever it is
  if (x.sizes() != at::IntArrayRef(wanted)) {
    std::string shape;
    for (const auto size : x.sizes()) shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    throw Unfit{"T705", "has the shape [" + shape + "]"};
  }
  return x;
}

/// Throws Unfit at the first row that is refused.
inline void refuse_rows(const at::Tensor& rows, const std::string& what) {
  if (!rows.any().item<bool>()) return;
  throw Unfit{"T704", what + " in row " + std::to_string(at::nonzero(rows)[0][0].item<std::int64_t>())};
}

/// Whole numbers from floats; NaN is missing. Throws Unfit.
inline at::Tensor whole_numbers(const Input& input, const at::Tensor& x) {
  const int bits = exact_bits(x.scalar_type());
  const auto nan = x.isnan(), known = nan.logical_not();
  refuse_rows(known.logical_and(x.abs().gt(static_cast<double>(std::int64_t{1} << bits))),
              "holds a floating-point id beyond 2^" + std::to_string(bits));
  refuse_rows(known.logical_and(x.ne(x.floor())), "holds a fraction");
  if (input.counts()) refuse_rows(nan, "holds a missing value");
  return at::where(nan, at::full({}, padding, x.options()), x).to(at::kLong);
}

/// A measured tensor as int64 or float32, contiguous. Throws Unfit.
inline at::Tensor converted(const Input& input, at::Tensor x) {
  const auto type = x.scalar_type();
  if (!input.whole) {
    if (type == at::kBool) x = x.contiguous().view(at::kByte).ne(0);              // whatever the byte is
    if (type == at::kLong || type == at::kUInt64) x = x.to(at::kDouble);  // rounded as training rounds them
    return x.to(at::kFloat).contiguous();
  }
  if (exact_bits(type) > 0) return whole_numbers(input, x).contiguous();
  if (type == at::kUInt64) {
    x = x.contiguous().view(at::kLong);  // all 64 bits are an id's; a row has at most 63
    if (!input.takes_any()) x = x.masked_fill(x.lt(0), std::numeric_limits<std::int64_t>::max());
  }
  return x.to(at::kLong).contiguous();
}

}  // namespace towerspec
