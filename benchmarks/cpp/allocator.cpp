// Calls a surface on one inputs file, again and again: prints the microseconds of CPU, in user and in system mode, and
// the page faults that a call takes.
//
//   allocator BUILD SURFACE FILE CALLS system|kept

#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <iostream>
#include <string>

#include "towerspec/files.hpp"
#include "towerspec/memory.hpp"
#include "towerspec/towerspec.hpp"

namespace {

rusage used() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

double microseconds(const timeval& from, const timeval& to) {
  return 1e6 * static_cast<double>(to.tv_sec - from.tv_sec) + static_cast<double>(to.tv_usec - from.tv_usec);
}

}  // namespace

int main(int, char** argv) {
  if (std::string(argv[5]) == "kept") towerspec::keep_memory();
  at::set_num_threads(1);
  const auto surface = towerspec::Bundle(argv[1]).surface(argv[2]);
  const auto inputs = towerspec::read_inputs(argv[3], surface);
  const int calls = std::stoi(argv[4]);
  for (int i = 0; i < calls / 10; ++i) surface(inputs);
  const auto before = used();
  for (int i = 0; i < calls; ++i) surface(inputs);
  const auto after = used();
  std::cout << microseconds(before.ru_utime, after.ru_utime) / calls << ' '
            << microseconds(before.ru_stime, after.ru_stime) / calls << ' '
            << static_cast<double>(after.ru_minflt - before.ru_minflt) / calls << '\n';
}
