set(runtime_tests prompt_test tokenizer_test)
