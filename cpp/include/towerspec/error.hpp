// What goes wrong, with the codes that `towerspec explain CODE` explains.
#pragma once

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace towerspec {

/// A mistake in a build or in the inputs of a call; `what()` is the whole text, as Python shows it.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message, const std::vector<std::string>& notes = {},
        const std::string& help = "")
      : std::runtime_error(text(code, message, notes, help)), code_(std::move(code)) {}

  /// The code alone, such as `T702`.
  const std::string& code() const noexcept { return code_; }

 private:
  static std::string text(const std::string& code, const std::string& message, const std::vector<std::string>& notes,
                          const std::string& help) {
    std::string all = "error[" + code + "]: " + message;
    for (const auto& note : notes) all += "\n = note: " + note;
    if (!help.empty()) all += "\n = help: " + help;
    return all;
  }

  std::string code_;
};

/// What a library's error says is wrong, without the stacks around it.
inline std::string said(const std::exception& error) {
  std::string text = error.what();
  text.resize(std::min(text.find("\nException raised from"), text.size()));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const bool script = text.find("TorchScript interpreter") < text.find('\n');  // what is wrong is the last line
  return script ? text.substr(text.rfind('\n') + 1) : text.substr(0, text.find('\n'));
}

/// Names for a note, comma separated, cut where there are many.
inline std::string listing(const std::vector<std::string>& names, std::size_t most = 24) {
  std::string all;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) all += (i > 0 ? ", " : "") + names[i];
  if (names.size() > most) all += ", … (" + std::to_string(names.size() - most) + " more)";
  return all;
}

}  // namespace towerspec
