#include "runtime/sha256.h"

#include <openssl/evp.h>

#include <stdexcept>

namespace rubricrm {
namespace {

void require(int status) {
  if (status != 1) throw std::runtime_error("OpenSSL cannot compute SHA-256");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  require(context_ != nullptr ? EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) : 0);
}

void Sha256::update(const void* data, size_t size) { require(EVP_DigestUpdate(context_.get(), data, size)); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(context_.get(), digest, &size));
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int n = 0; n < size; ++n) text += {digits[digest[n] >> 4], digits[digest[n] & 15]};
  return text;
}

std::string sha256_hex(std::string_view data) {
  Sha256 digest;
  digest.update(data.data(), data.size());
  return digest.hex();
}

}  // namespace rubricrm
