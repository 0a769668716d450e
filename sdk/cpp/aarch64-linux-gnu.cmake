# Toolchain: Debian's cross compiler for 64-bit ARM. Its tests run under emulation.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# What tests/aarch64/sysroot.sh makes: the kernels need none of it. This machine's own libraries are for another processor.
get_filename_component(sysroot ${CMAKE_CURRENT_LIST_DIR}/../../build/aarch64-sysroot ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${sysroot}/root)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} ${sysroot}/root/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${sysroot}/root)
set(OPENSSL_USE_STATIC_LIBS TRUE)
set(CMAKE_CXX_STANDARD_INCLUDE_DIRECTORIES ${sysroot}/root/usr/include/aarch64-linux-gnu)  # of libcrypto

if(EXISTS ${sysroot}/emulate)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${sysroot}/emulate)
else()
  set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64-static;-cpu;max;-L;/usr/aarch64-linux-gnu")
endif()
