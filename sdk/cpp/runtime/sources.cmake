target_sources(rubricrm_objects PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/added_tokens.cpp
  ${CMAKE_CURRENT_LIST_DIR}/byte_alphabet.cpp
  ${CMAKE_CURRENT_LIST_DIR}/byte_pair_encoding.cpp
  ${CMAKE_CURRENT_LIST_DIR}/merge_table.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pre_tokenizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/prompt.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_model.cpp
  ${CMAKE_CURRENT_LIST_DIR}/vocabulary.cpp
  ${CMAKE_CURRENT_LIST_DIR}/word_encoder.cpp)
