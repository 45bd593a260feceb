// Tensors of a call from safetensors, a format simple enough to read without a library, as strictly as its own does:
// eight bytes of header length, a JSON header, and the tensors' bytes, one tensor after another without a gap.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "towerspec/json.hpp"

namespace towerspec::safetensors {

/// What is wrong with a file, as the end of a sentence.
class Malformed : public std::runtime_error {
 public:
  explicit Malformed(const std::string& what = "is no safetensors file") : std::runtime_error(what) {}
};

/// Where a tensor lies, and what it is; made only where its shape has as many bytes as it lies in.
struct Part {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::uint64_t start = 0, end = 0;

  Part(const std::string& tensor, const json::Value& entry) : name(tensor) {
    const auto *dtype = entry.find("dtype"), *offsets = entry.find("data_offsets");
    std::vector<std::int64_t> ends;
    if (dtype == nullptr || !dtype->is(json::Value::Kind::string) || !sizes(entry.find("shape"), shape) ||
        !sizes(offsets, ends) || ends.size() != 2) {
      throw Malformed();
    }
    type = type_of(dtype->text);
    start = static_cast<std::uint64_t>(ends[0]), end = static_cast<std::uint64_t>(ends[1]);
    static constexpr std::uint64_t most = std::uint64_t{1} << 62;  // so that no product wraps around
    std::uint64_t count = 1;
    bool none = false;
    for (const auto size : shape) {
      const auto wide = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
      if (wide > (most - 1) / count) throw Malformed();
      count *= wide;
      none = none || size == 0;
    }
    const auto bytes = none ? 0 : count;
    const auto width = static_cast<std::uint64_t>(c10::elementSize(type));
    if (end < start || (end - start) % width != 0 || (end - start) / width != bytes) throw Malformed();
  }

  at::Tensor tensor(std::string_view data) const {
    auto x = at::empty(shape, type);
    if (end > start) std::memcpy(x.data_ptr(), data.data() + start, end - start);
    return x;
  }

 private:
  static bool sizes(const json::Value* list, std::vector<std::int64_t>& found) {
    if (list == nullptr || !list->is(json::Value::Kind::array)) return false;
    for (const auto& item : list->items) {
      std::int64_t size = 0;
      if (!item.whole(size) || size < 0) return false;
      found.push_back(size);
    }
    return true;
  }

  at::ScalarType type_of(const std::string& word) const {
    static const std::map<std::string, at::ScalarType> types{
        {"F64", at::kDouble}, {"F32", at::kFloat},  {"F16", at::kHalf},   {"BF16", at::kBFloat16}, {"BOOL", at::kBool},
        {"I64", at::kLong},   {"I32", at::kInt},    {"I16", at::kShort},  {"I8", at::kChar},
        {"U64", at::kUInt64}, {"U32", at::kUInt32}, {"U16", at::kUInt16}, {"U8", at::kByte}};
    const auto found = types.find(word);
    if (found == types.end()) throw Malformed("holds `" + name + "` as " + word + ", which no input takes");
    return found->second;
  }
};

/// The tensors of a file's content by name. Throws Malformed before anything is allocated for them.
inline std::map<std::string, at::Tensor> parse(std::string_view content) {
  static constexpr std::uint64_t largest_header = 100'000'000;
  std::uint64_t length = 0;
  if (content.size() < 8) throw Malformed();
  std::memcpy(&length, content.data(), 8);
  if (length > std::min<std::uint64_t>(largest_header, content.size() - 8)) throw Malformed();
  const auto data = content.substr(8 + length);
  std::vector<Part> parts;
  try {
    const auto header = json::parse(content.substr(8, length));
    if (!header.is(json::Value::Kind::object)) throw Malformed();
    for (const auto& [name, entry] : header.members) {
      if (name != "__metadata__") parts.emplace_back(name, entry);
    }
  } catch (const json::Malformed&) {
    throw Malformed();
  }
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return std::pair(a.start, a.end) < std::pair(b.start, b.end);
  });
  std::uint64_t end = 0;
  for (const auto& part : parts) {
    if (part.start != end) throw Malformed();
    end = part.end;
  }
  if (end != data.size()) throw Malformed();
  std::map<std::string, at::Tensor> tensors;
  for (const auto& part : parts) tensors[part.name] = part.tensor(data);
  return tensors;
}

}  // namespace towerspec::safetensors
