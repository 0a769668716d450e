// SHA-256 by OpenSSL.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace rubricrm {

// A digest that grows. Throws std::runtime_error where OpenSSL cannot compute it.
class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t size);
  // 64 lower-case hex digits. The object is then used up.
  std::string hex();

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

std::string sha256_hex(std::string_view data);

}  // namespace rubricrm
