set(rubric_tests cases_test rubric_test)

# Programs that pytest compares with the Python package: tests/native/test_rubric_parity.py.
foreach(program parse_stream match_stream)
  add_executable(${program} ${CMAKE_CURRENT_LIST_DIR}/${program}.cpp)
  target_link_libraries(${program} PRIVATE rubricrm_objects)
endforeach()

# With clang and -DRUBRICRM_SANITIZE=fuzzer-no-link,address,undefined:
#   python tests/cpp/fuzz/make_rubric_seeds.py build/fuzz/seeds && build/fuzz/tests/cpp/rubric_fuzz build/fuzz/seeds
if(RUBRICRM_SANITIZE MATCHES fuzzer)
  add_executable(rubric_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/rubric_fuzz.cpp)
  target_link_libraries(rubric_fuzz PRIVATE rubricrm_objects)
  target_link_options(rubric_fuzz PRIVATE -fsanitize=fuzzer)
endif()
