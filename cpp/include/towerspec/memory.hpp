// What a program that serves may tell the C library about memory.
#pragma once

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace towerspec {

/// Has the C library keep the memory that a call frees, for the next call; to be called once, before anything is loaded.
///
/// A call takes some megabytes for what is between its layers, and frees them. glibc gives them back to the system at
/// once, by trimming its heap and by unmapping what is larger than 128 KiB, and the next call fetches them anew, page
/// by page. Another C library, or an allocator of your own, is left as it is. mallopt(3) says what the settings are.
inline void keep_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that it takes; larger ones come from the system and go back to it
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);  // as much may lie free at the heap's end
#endif
}

}  // namespace towerspec
