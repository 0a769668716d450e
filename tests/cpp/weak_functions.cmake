# Fails where one of OBJECTS, the object files of instruction sets, defines a function that another file may define too.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --demangle --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* W [^\n]*" weak "${symbols}")
  if(weak)
    list(JOIN weak "\n" weak)
    message(SEND_ERROR "${object}:\n${weak}\nGive them internal linkage: static, or an unnamed namespace.")
  endif()
endforeach()
