/* expect.h for programs in C. */
#pragma once

#include <stdio.h>

static int failures = 0;

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      ++failures;                                                                \
      printf("%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);       \
    }                                                                            \
  } while (0)
