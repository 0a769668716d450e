target_sources(rubricrm_objects PRIVATE
  api/answer_events.cpp
  api/bundle_texts.cpp
  api/errors.cpp
  api/grammar.cpp
  api/inputs.cpp
  api/prompt.cpp
  api/reader.cpp
  api/result.cpp
  api/rubric.cpp)
if(RUBRICRM_RUNTIME)
  target_sources(rubricrm_objects PRIVATE
    api/generate_many.cpp
    api/model.cpp
    api/open_model.cpp
    api/open_request.cpp
    api/request.cpp
    api/shared_phrases.cpp)
endif()
