// What the reader makes of values, a line of orders in and a line of JSON out, for as long as there are orders:
//
//   json FILE                       the value that a text is, numbers as their bits, or why it is none
//   inputs BUILD SURFACE FILE       the tensors that a surface takes for a file of inputs, or the error
//   strict BUILD SURFACE FILE       the same, where values need a meaning of their own
//   tensor BUILD SURFACE FILE INPUT KIND   the same, with one input's tensor turned into another kind
//   statistics BUILD SURFACE FILE N how many ids of each input a surface counts in N calls
//   entries FILE                    whether a manifest's list of inputs is well-formed, or the error
//   vocabulary FILE                 the same of a list of ids

#include <cstring>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "towerspec/files.hpp"
#include "towerspec/towerspec.hpp"

namespace {

using towerspec::json::Value;

std::string quoted(const std::string& text) {
  std::ostringstream out;
  out << '"' << std::hex << std::setfill('0');
  for (const char c : text) out << "\\u00" << std::setw(2) << static_cast<unsigned>(static_cast<unsigned char>(c));
  out << '"';  // its bytes, one character each
  return out.str();
}

template <class Bits, class Number>
Bits bits(Number x) {
  Bits found;
  static_assert(sizeof found == sizeof x);
  std::memcpy(&found, &x, sizeof x);
  return found;
}

std::string shown(const Value& value) {
  switch (value.kind) {
    case Value::Kind::null: return "null";
    case Value::Kind::boolean: return value.truth ? "true" : "false";
    case Value::Kind::string: return quoted(value.text);
    case Value::Kind::number:
      return "[\"number\", " + std::to_string(bits<std::uint64_t>(value.number)) + "]";
    case Value::Kind::array: {
      std::string out = "[\"array\"";
      for (const auto& item : value.items) out += ", " + shown(item);
      return out + "]";
    }
    case Value::Kind::object: {
      std::string out = "[\"object\"";
      for (const auto& [name, member] : value.members) out += ", [" + quoted(name) + ", " + shown(member) + "]";
      return out + "]";
    }
  }
  return "";
}

std::string shown(const std::vector<at::Tensor>& tensors) {
  std::string out = "{\"tensors\": [";
  for (const auto& x : tensors) {
    const bool whole = x.scalar_type() == at::kLong;
    if (!whole && x.scalar_type() != at::kFloat) throw std::logic_error("another type");
    if (!x.is_contiguous() || x.is_neg() || x.requires_grad()) throw std::logic_error("not resolved");
    out += (&x == &tensors[0] ? "[[" : ", [[");
    for (std::int64_t i = 0; i < x.dim(); ++i) out += (i > 0 ? ", " : "") + std::to_string(x.size(i));
    out += whole ? "], \"int64\"" : "], \"float32\"";
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      out += ", " + (whole ? std::to_string(x.data_ptr<std::int64_t>()[i])
                           : std::to_string(bits<std::int32_t>(x.data_ptr<float>()[i])));
    }
    out += "]";
  }
  return out + "]}";
}

at::Tensor turned(const at::Tensor& x, const std::string& kind) {
  static const std::map<std::string, std::function<at::Tensor(const at::Tensor&)>> kinds{
      {"undefined", [](const auto&) { return at::Tensor(); }},
      {"sparse", [](const auto& x) { return x.to_sparse(); }},
      {"meta", [](const auto& x) { return x.to(at::kMeta); }},
      {"quantised", [](const auto& x) { return at::quantize_per_tensor(x.to(at::kFloat), 0.1, 0, at::kQUInt8); }},
      {"onednn", [](const auto& x) { return x.to(at::kFloat).to_mkldnn(); }},
      {"nested", [](const auto& x) { return at::_nested_tensor_from_tensor_list({x, x}); }},
      {"complex", [](const auto& x) { return x.to(at::kComplexFloat); }},
      {"bool", [](const auto& x) { return x.to(at::kBool); }},
      {"float8", [](const auto& x) { return x.to(at::kFloat8_e4m3fn); }},
      {"scalar", [](const auto& x) { return x.sum(); }},
      {"freed", [](const auto& x) {
         auto y = x.clone();
         y.storage().unsafeGetStorageImpl()->set_nbytes(0);
         return y;
       }},
      {"endless", [](const auto& x) { return x.reshape({-1}).slice(0, 0, 1).expand({std::int64_t{1} << 60}); }},
      {"negative", [](const auto& x) { return at::imag(at::complex(x.to(at::kFloat), x.to(at::kFloat)).conj()); }},
      {"grad", [](const auto& x) { return x.to(at::kFloat).clone().set_requires_grad(true); }},
      {"strided", [](const auto& x) { return at::stack({x, x}, -1).select(-1, 1); }},
      {"float64", [](const auto& x) { return x.to(at::kDouble); }},
      {"uint64", [](const auto& x) { return x.to(at::kLong).view(at::kUInt64); }},
  };
  return kinds.at(kind)(x);
}

std::string counted(const std::string& build, const std::string& name, const std::string& file, int calls) {
  const auto surface = towerspec::Bundle(build).surface(name);
  const auto inputs = towerspec::read_inputs(file, surface);
  for (int i = 0; i < calls; ++i) surface(inputs);
  std::string out;
  for (const auto& [input, seen] : surface.statistics()) {
    out += (out.empty() ? "{" : ", ") + quoted(input) + ": [" + std::to_string(seen.known) + ", " +
           std::to_string(seen.unknown) + ", " + std::to_string(seen.missing) + "]";
  }
  return out + "}";
}

std::string answer(std::istringstream& order) {
  std::string what, build, name, file, input, kind;
  order >> what;
  if (what == "json") {
    order >> file;
    return shown(towerspec::json::parse(towerspec::read_file(file, "T704")));
  }
  if (what == "entries" || what == "vocabulary") {
    order >> file;
    const auto document = towerspec::json::parse(towerspec::read_file(file, "T704"));
    if (what == "entries") towerspec::read_entries("home", &document);
    else towerspec::Vocabulary(document, 5);
    return "true";
  }
  order >> build >> name >> file;
  if (what == "statistics") {
    int calls = 0;
    order >> calls;
    return counted(build, name, file, calls);
  }
  static std::map<std::string, towerspec::Surface> surfaces;
  auto found = surfaces.find(build + name);
  if (found == surfaces.end()) found = surfaces.emplace(build + name, towerspec::Bundle(build).surface(name)).first;
  const auto& surface = found->second;
  auto inputs = towerspec::read_inputs(file, surface);
  if (what == "tensor") {
    order >> input >> kind;
    inputs[input] = turned(inputs.at(input), kind);
  }
  const auto tensors = surface.boundary().prepare(inputs, what == "strict");
  surface(inputs);  // what passes the boundary can be computed
  return shown(tensors);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream order(line);
    try {
      std::cout << answer(order) << std::endl;
    } catch (const towerspec::Error& error) {
      std::cout << "{\"error\": " << quoted(error.what()) << "}" << std::endl;
    } catch (const towerspec::json::Malformed& error) {
      std::cout << "{\"malformed\": " << quoted(error.what()) << "}" << std::endl;
    }
  }
}
