add_executable(rubricrm-run
  run/arguments.cpp
  run/failure.cpp
  run/generate.cpp
  run/inspect.cpp
  run/main.cpp
  run/parse.cpp
  run/terminal.cpp)
target_link_libraries(rubricrm-run PRIVATE rubricrm_objects)
set_target_properties(rubricrm-run PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
install(TARGETS rubricrm-run)
