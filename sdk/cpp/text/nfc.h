// Unicode's normalization form C: the form in which Qwen's tokenizer reads text.
#pragma once

#include <string>
#include <string_view>

namespace rubricrm {

// `text` in form C, for valid UTF-8. Text that is in it already is returned itself, without a copy; other text is
// written to `storage`, and a view of that is returned. Linear in the length but for runs of combining marks, which are
// sorted: n log n.
std::string_view normalize_nfc(std::string_view text, std::string& storage);

// Where the first run of `text` ends: a character and all those after it that normalization may join to it or reorder.
// Each run is normalized for itself. `text` is valid UTF-8 and not empty.
size_t normalization_run(std::string_view text);

}  // namespace rubricrm
