// Loops over independent pieces, split among threads. Which thread works on a piece changes no result.
#pragma once

#include <cstddef>
#include <functional>

namespace aero {

// How many threads one call of a kernel may use, itself included: 1 until set_threads() says otherwise.
int threads();
void set_threads(int count);  // at least 1

// Calls part(begin, end) for ranges that make up [0, count), at the same time, and returns when all are done. `words` is
// about how many words of memory one piece reads and writes: little work is not split. Threads are started by each
// call and end with it, so there are none to lose in a fork. What a part throws is thrown here.
void in_parallel(std::size_t count, std::size_t words, const std::function<void(std::size_t, std::size_t)>& part);

}  // namespace aero
