# Fails the build if a file with special flags defines a symbol that the linker may share with other files: such a
# function could be the copy that everybody calls, with instructions that not every processor has (csrc/dispatch.h).
# Run as: cmake -DNM=nm -DOBJECTS=a.o;b.o -P check_variants.cmake
foreach(object IN LISTS OBJECTS)
  if(object MATCHES "_(avx2|avx512|armv8)\\.cpp\\.")
    execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "cannot list the symbols of ${object}")
    endif()
    string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]*" shared "${symbols}")
    if(shared)
      string(REPLACE ";" "\n  " shared "${shared}")
      message(FATAL_ERROR "${object} defines shareable symbols; keep such templates and inline functions out of it:\n  ${shared}")
    endif()
  endif()
endforeach()
