set(runtime_tests
  bundle_cases_test
  bundle_test
  cache_directory_test
  control_group_test
  manifest_test
  npz_test
  prefix_file_test
  row_summary_test)
if(RUBRICRM_RUNTIME)
  list(APPEND runtime_tests session_end_test session_test)
endif()
