#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace aero {
namespace {

constexpr std::size_t kWordsEach = std::size_t{1} << 17;  // starting a thread takes about as long as so many words

std::atomic<int>& allowed() {
  static std::atomic<int> count{1};
  return count;
}

}  // namespace

int threads() { return allowed().load(std::memory_order_relaxed); }

void set_threads(int count) { allowed().store(count, std::memory_order_relaxed); }

void in_parallel(std::size_t count, std::size_t words, const std::function<void(std::size_t, std::size_t)>& part) {
  const std::size_t most = std::min<std::size_t>(static_cast<std::size_t>(threads()), count);
  const std::size_t parts = std::min(most, words * count / kWordsEach);
  if (parts <= 1) {
    if (count) part(0, count);
    return;
  }
  const auto begin = [&](std::size_t i) { return count * i / parts; };
  std::vector<std::exception_ptr> failures(parts);
  const auto run = [&](std::size_t i) noexcept {
    try {
      part(begin(i), begin(i + 1));
    } catch (...) {
      failures[i] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(parts - 1);
  std::size_t started = 1;
  try {
    for (; started < parts; ++started) others.emplace_back(run, started);
  } catch (const std::system_error&) {
    // The system has no more threads: this one does what is left.
  }
  run(0);
  for (std::size_t i = started; i < parts; ++i) run(i);
  for (std::thread& thread : others) thread.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace aero
