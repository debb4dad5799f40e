#include "dispatch.h"

#include <atomic>
#include <initializer_list>

#if AERO_X86
#include <cpuid.h>
#elif AERO_ARM64 && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace aero {
namespace {

[[maybe_unused]] bool all(unsigned long long word, unsigned long long bits) { return (word & bits) == bits; }

#if AERO_X86
struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf) {
  Registers r;
  __get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);  // leaves zeros where the leaf does not exist
  return r;
}

// The register states that the operating system saves on a context switch (XCR0); 0 without XSAVE.
unsigned long long saved_states() {
  constexpr unsigned osxsave = 1u << 27;
  if (!(cpuid(1).ecx & osxsave)) return 0;
  unsigned lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<unsigned long long>(hi) << 32) | lo;
}

bool has_avx2() {
  constexpr unsigned pclmul = 1u << 1, fma = 1u << 12, aes = 1u << 25, avx = 1u << 28;  // leaf 1, ecx
  constexpr unsigned avx2 = 1u << 5, bmi2 = 1u << 8;                                    // leaf 7, ebx
  constexpr unsigned long long sse_avx = 0x6;
  return all(saved_states(), sse_avx) && all(cpuid(1).ecx, pclmul | fma | aes | avx) && all(cpuid(7).ebx, avx2 | bmi2);
}

bool has_avx512() {
  constexpr unsigned f = 1u << 16, dq = 1u << 17, ifma = 1u << 21, bw = 1u << 30, vl = 1u << 31;          // leaf 7, ebx
  constexpr unsigned vbmi = 1u << 1, vbmi2 = 1u << 6, gfni = 1u << 8, vaes = 1u << 9, vpclmul = 1u << 10;  // leaf 7, ecx
  constexpr unsigned long long sse_avx_opmask_zmm = 0xe6;
  return has_avx2() && all(saved_states(), sse_avx_opmask_zmm) && all(cpuid(7).ebx, f | dq | ifma | bw | vl) &&
         all(cpuid(7).ecx, vbmi | vbmi2 | gfni | vaes | vpclmul);
}
#endif

Level best() {
  for (Level level : {Level::avx512, Level::avx2, Level::armv8})
    if (available(level)) return level;
  return Level::portable;
}

std::atomic<Level>& current() {
  static std::atomic<Level> level{best()};
  return level;
}

}  // namespace

bool available(Level level) {
  switch (level) {
    case Level::portable:
      return true;
#if AERO_X86
    case Level::avx2:
      return has_avx2();
    case Level::avx512:
      return has_avx512();
#elif AERO_ARM64 && defined(__linux__)
    case Level::armv8:
      return all(getauxval(AT_HWCAP), 1ul << 3 | 1ul << 4);  // HWCAP_AES, HWCAP_PMULL
#elif AERO_ARM64 && defined(__APPLE__)
    case Level::armv8:
      return true;
#endif
    default:
      return false;
  }
}

Level level() { return current().load(std::memory_order_relaxed); }

void set_level(Level level) { current().store(level, std::memory_order_relaxed); }

}  // namespace aero
