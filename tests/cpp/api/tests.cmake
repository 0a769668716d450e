# The C API as its users meet it: through the header, in the shared library.
enable_language(C)
set(bundle ${CMAKE_SOURCE_DIR}/sdk/python/rubricrm/demo_bundle)
# The library of ONNX Runtime that tests use, as runtime/onnxruntime_for_tests.h: skipped where there is none.
set(environment RUBRICRM_KERNELS_LIBRARY=$<TARGET_FILE:rubricrm_kernels>)
file(GLOB onnxruntime ${CMAKE_SOURCE_DIR}/.venv/lib/*/site-packages/onnxruntime/capi/libonnxruntime.so*)
if(onnxruntime AND NOT DEFINED ENV{RUBRICRM_ONNXRUNTIME})
  list(GET onnxruntime 0 onnxruntime)
  list(APPEND environment RUBRICRM_ONNXRUNTIME=${onnxruntime})
endif()
if(RUBRICRM_SANITIZE MATCHES address)
  list(APPEND environment ASAN_OPTIONS=detect_leaks=0)  # ONNX Runtime keeps what it has for good
endif()

function(add_api_test name)
  add_test(NAME api/${name} COMMAND ${ARGN})
  set_tests_properties(api/${name} PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "${environment}")
endfunction()

function(add_api_program name source)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE rubricrm::rubricrm Threads::Threads)
  set_target_properties(${name} PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Werror -pedantic)
  add_dependencies(${name} rubricrm_kernels)
endfunction()

add_api_program(core_functions_test api/core_functions_test.c)
add_api_test(core_functions_test core_functions_test ${bundle})
add_api_program(core_bad_input_test api/core_bad_input_test.cpp)
add_api_test(core_bad_input_test core_bad_input_test ${bundle})
if(NOT RUBRICRM_SANITIZE)  # which have a `new` of their own
  add_api_program(core_memory_test api/core_memory_test.cpp)
  add_api_test(core_memory_test core_memory_test ${bundle})
endif()
add_api_test(example_core example_core ${bundle} "Write a haiku about rain.")
add_test(NAME api/exports COMMAND
  ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DLIBRARY=$<TARGET_FILE:rubricrm> -DRUNTIME=${RUBRICRM_RUNTIME}
  -DHEADER=${CMAKE_SOURCE_DIR}/sdk/cpp/include/rubricrm.h -P ${CMAKE_CURRENT_SOURCE_DIR}/api/exports.cmake)

# Not with sanitizers, which a consumer's compiler line would need too, nor for another processor.
if(NOT RUBRICRM_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  add_test(NAME api/installation COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_BINARY_DIR} -DSOURCE=${CMAKE_SOURCE_DIR}
    -DWORK=${CMAKE_CURRENT_BINARY_DIR}/installation -DCC=${CMAKE_C_COMPILER} -DCXX=${CMAKE_CXX_COMPILER}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/api/installation.cmake)
endif()

if(RUBRICRM_RUNTIME)
  add_api_program(model_functions_test api/model_functions_test.c)
  add_api_program(model_threads_test api/model_threads_test.cpp)
  # ThreadSanitizer sees nothing of what ONNX Runtime does with its threads: generation/engine_threads_test is for it.
  if(NOT RUBRICRM_SANITIZE MATCHES thread)
    add_api_test(model_functions_test model_functions_test ${bundle})
    add_api_test(model_threads_test model_threads_test ${bundle} ${CMAKE_SOURCE_DIR}/tests/cases/engine/int4)
    add_api_test(example_blocking example_blocking ${bundle} "Write a haiku about rain.")
    add_api_test(example_streaming example_streaming ${bundle} "Write a haiku about rain.")
    set_tests_properties(api/example_blocking api/example_streaming PROPERTIES
      SKIP_REGULAR_EXPRESSION RUNTIME_MISSING)
    # A rubric of this bundle, whose weights are floats, costs an emulated processor a minute: tests/aarch64 runs the
    # programs of the API on packed weights.
    foreach(test model_functions_test model_threads_test example_blocking example_streaming)
      set_property(TEST api/${test} PROPERTY LABELS writes_rubrics_in_floats)
    endforeach()
    set_property(TEST runtime/session_test PROPERTY LABELS writes_rubrics_in_floats)
  endif()

  # The program in the header's first comment.
  file(READ ${CMAKE_SOURCE_DIR}/sdk/cpp/include/rubricrm.h header)
  string(REGEX MATCH "A first program:(.*)CONTENTS" matched "${header}")
  string(REPLACE "\n *" "\n" program "${CMAKE_MATCH_1}")
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/header_example.c @ONLY CONTENT
"#include <stdio.h>\n#include <rubricrm.h>\nint main(void) {\n@program@\n  return 0;\n}\n")
  add_api_program(header_example ${CMAKE_CURRENT_BINARY_DIR}/header_example.c)
endif()
