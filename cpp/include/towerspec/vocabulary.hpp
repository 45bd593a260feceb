// Raw ids at the boundary: texts as 64-bit numbers, and the vocabulary that a table's rows were fitted to.
#pragma once

#include <ATen/ATen.h>

#include <charconv>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "towerspec/error.hpp"
#include "towerspec/json.hpp"

namespace towerspec {

inline constexpr std::int64_t padding = -1;  // of lists; as an id, what is missing

/// A text as a 64-bit id: FNV-1a of its UTF-8 bytes.
inline std::int64_t text_id(std::string_view text) {
  std::uint64_t found = 0xCBF29CE484222325;
  for (const char c : text) found = (found ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return static_cast<std::int64_t>(found);
}

/// Whether a text is the usual decimal form of a whole number that the type holds; if so, that is put into `x`.
template <class Whole>
bool whole(std::string_view text, Whole& x) {
  const auto digits = text.substr(!text.empty() && text[0] == '-' ? 1 : 0);
  if (digits.empty() || (digits[0] == '0' && text != "0")) return false;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
  return code == std::errc() && end == text.data() + text.size();
}

/// A text as a raw id of a vocabulary: the whole number that it is the usual form of, or its `text_id`.
inline std::int64_t raw_id(std::string_view text) {
  std::int64_t id = 0;
  std::uint64_t bits = 0;
  if (whole(text, id)) return id;
  return whole(text, bits) ? static_cast<std::int64_t>(bits) : text_id(text);
}

/// The rows of a table by raw id. A text that is the usual form of a whole number is that number, so that 100 and "100"
/// are one id; other texts stand in it as their `text_id`.
class Vocabulary {
 public:
  /// From a list of whole numbers and texts in row order; all other ids get the row `unknown`. Throws Error, T701,
  /// where it is none, or longer than the table.
  Vocabulary(const json::Value& ids, std::int64_t unknown) : unknown_(unknown) {
    if (!ids.is(json::Value::Kind::array) || static_cast<std::int64_t>(ids.items.size()) > unknown) {
      throw malformed("is no list of at most " + std::to_string(unknown) + " ids");
    }
    std::int64_t row = 0;
    for (const auto& id : ids.items) {
      std::int64_t raw = 0;
      if (id.is(json::Value::Kind::string)) raw = raw_id(id.text);
      else if (!id.whole(raw)) throw malformed("holds what is neither a text nor a whole number of 64 bits");
      rows_.emplace(raw, row++);  // of two that are one number, the first counts
    }
    row = 0;
    for (const auto& id : ids.items) {  // callers may hash texts by themselves, numbers among them
      if (id.is(json::Value::Kind::string)) rows_.emplace(text_id(id.text), row);
      ++row;
    }
  }

  /// The rows of raw ids, int64; -1 stays -1, which is missing.
  at::Tensor look_up(const at::Tensor& ids) const {
    auto rows = ids.to(at::kCPU).contiguous().clone();
    auto* data = rows.data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < rows.numel(); ++i) {
      if (data[i] == padding) continue;
      const auto found = rows_.find(data[i]);
      data[i] = found == rows_.end() ? unknown_ : found->second;
    }
    return rows.to(ids.device());
  }

 private:
  static Error malformed(const std::string& why) {
    return Error("T701", "a vocabulary of the build " + why, {}, "make the build anew with `towerspec compile`");
  }

  std::unordered_map<std::int64_t, std::int64_t> rows_;
  std::int64_t unknown_;
};

/// Vocabularies by table, shared by the surfaces of a build.
using Vocabularies = std::map<std::string, std::shared_ptr<const Vocabulary>>;

}  // namespace towerspec
