set(rubric_tests cases_test rubric_test)

# Programs that pytest compares with the Python package: tests/native/test_rubric_parity.py.
foreach(program parse_stream match_stream)
  add_executable(${program} ${CMAKE_CURRENT_LIST_DIR}/${program}.cpp)
  target_link_libraries(${program} PRIVATE rubricrm_objects)
endforeach()
