set(text_tests json_reader_test nfc_test utf8_test)
# Run by tests/native, which compares it with Python.
add_executable(encode_stream text/encode_stream.cpp)
target_link_libraries(encode_stream PRIVATE rubricrm_objects)
