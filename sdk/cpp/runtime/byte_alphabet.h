// The alphabet of byte-level BPE: a character for each byte, in which vocabularies spell their tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rubricrm {

// The character that stands for a byte, in UTF-8.
std::string byte_character(uint8_t byte);

// The bytes of a vocabulary entry; one that is not all in the byte alphabet stands for itself. For valid UTF-8.
std::string bytes_of(std::string_view token);

}  // namespace rubricrm
