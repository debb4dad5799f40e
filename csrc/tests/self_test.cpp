// The kernels without Python: at every level of this processor, with one thread and with several, against published
// vectors and plain definitions. For other processors, emulators and sanitizers, where the Python tests are out of
// reach; csrc/tests/run builds and runs it in all these ways.
//
// Under valgrind's memcheck it also finds branches and addresses that depend on secrets (check.h), and then takes one
// thread alone. With the argument `leak-branch` or `leak-index` it has such a branch or address on purpose, which shows
// that they are found.
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "check.h"
#include "dispatch.h"
#include "parallel.h"

namespace aero {
namespace {

struct {
  Level level;
  const char* name;
} constexpr kLevels[] = {
    {Level::portable, "portable"}, {Level::armv8, "armv8"}, {Level::avx2, "avx2"}, {Level::avx512, "avx512"}};

bool under_valgrind() {
#ifdef RUNNING_ON_VALGRIND
  return RUNNING_ON_VALGRIND;
#else
  return false;
#endif
}

int leak(bool by_branch) {
  Bytes key = Random(1).bytes(1);
  static volatile int table[256];
  secret(key);
  if (!by_branch) return table[key[0]];
  if (key[0] & 1) table[0] = 1;
  return table[0];
}

bool passes() {
  bool fine = true;
  U expected = 0;
  for (const auto& entry : kLevels) {
    if (!available(entry.level)) continue;
    set_level(entry.level);
    for (const int count : {1, 3}) {
      if (count > 1 && under_valgrind()) continue;
      set_threads(count);
      Results results;
      for (const auto part : {test_symmetric, test_transfers, test_ring, test_lattice, test_slots}) part(results);
      std::printf("%s, %d thread%s: %d checks, results %016llx\n", entry.name, count, count > 1 ? "s" : "",
                  results.checks(), static_cast<unsigned long long>(results.digest()));
      if (!expected) expected = results.digest();
      if (results.digest() != expected) std::puts("  wrong: these results differ from those of the first line");
      fine = fine && results.failures() == 0 && results.digest() == expected;
    }
  }
  return fine;
}

}  // namespace
}  // namespace aero

int main(int argc, char** argv) {
  if (argc > 1) return aero::leak(std::strcmp(argv[1], "leak-branch") == 0);
  const bool fine = aero::passes();
  std::puts(fine ? "passed" : "FAILED");
  return fine ? 0 : 1;
}
