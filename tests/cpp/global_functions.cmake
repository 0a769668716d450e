# Fails where one of OBJECTS, the object files of instruction sets, defines a function that another file can call (T), or
# that another file may define too (W).
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --demangle --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [TW] [^\n]*" found "${symbols}")
  if(found)
    list(JOIN found "\n" found)
    message(SEND_ERROR "${object}:\n${found}\nGive them internal linkage: static, or an unnamed namespace. What others
call goes through the set's table.")
  endif()
endforeach()
