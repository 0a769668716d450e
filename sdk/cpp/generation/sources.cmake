target_sources(rubricrm_objects PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/rubric_stream.cpp)
