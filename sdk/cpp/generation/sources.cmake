target_sources(rubricrm_objects PRIVATE
  generation/acceptance.cpp
  generation/completion.cpp
  generation/constraint.cpp
  generation/deadlines.cpp
  generation/decision.cpp
  generation/draft_desk.cpp
  generation/draft_plan.cpp
  generation/drafting.cpp
  generation/drafts.cpp
  generation/driver.cpp
  generation/engine.cpp
  generation/engine_options.cpp
  generation/grammar.cpp
  generation/grammar_check.cpp
  generation/grammar_file.cpp
  generation/item_number.cpp
  generation/next_token.cpp
  generation/options.cpp
  generation/phrase_file.cpp
  generation/phrase_table.cpp
  generation/repetition.cpp
  generation/result.cpp
  generation/row_decision.cpp
  generation/rubric_stream.cpp
  generation/sampling.cpp
  generation/scheduler.cpp
  generation/sequence.cpp
  generation/slot_pool.cpp
  generation/step_cost.cpp
  generation/step_cost_file.cpp
  generation/stop_strings.cpp)
# No floating-point exception is looked at here: without the fear of one, comparisons become vectors too.
set_source_files_properties(generation/constraint.cpp generation/sampling.cpp PROPERTIES
  COMPILE_OPTIONS -fno-trapping-math)
