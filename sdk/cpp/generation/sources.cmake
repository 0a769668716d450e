target_sources(rubricrm_objects PRIVATE
  generation/deadlines.cpp
  generation/drafts.cpp
  generation/driver.cpp
  generation/engine.cpp
  generation/engine_options.cpp
  generation/json_text.cpp
  generation/result.cpp
  generation/row_decision.cpp
  generation/scheduler.cpp
  generation/sequence.cpp
  generation/slot_pool.cpp)
