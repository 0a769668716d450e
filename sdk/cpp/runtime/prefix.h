// The keys and values of the tokens that begin every prompt: from the bundle, from this machine's cache, or computed
// once and kept there. The Python package finds and writes the same files.
#pragma once

#include <optional>
#include <string>

#include "runtime/onnx_session.h"
#include "runtime/prefix_file.h"

namespace rubricrm {

// Runs the tokens through the model (as long as one prefill of them). Throws OUTPUT_INVALID: a key, a value or a logit
// is NaN or infinite; and as Session::step.
Prefix compute_prefix(const Bundle& bundle, OnnxSession& session, const TokenIds& token_ids);

// The prefix that the bundle brings, else the one in this machine's cache; none: there is none to be used. The file is
// mapped, not copied; checking it takes 65 ms for a 4B model, and can be done beside other work. A cached file that
// cannot be read or does not fit costs a warning. Throws BUNDLE_INVALID: the bundle's own file does not fit its model.
std::optional<Prefix> kept_prefix(const Bundle& bundle, const OnnxSession& session, const Warn& warn = {});

// The prefix of these tokens: the kept one if it is theirs, else computed and kept in this machine's cache. Where there
// is no cache directory, or none that is this user's alone, it is computed at each opening, with a warning. Throws
// BUNDLE_INVALID: the bundle's own file is of other tokens; and as compute_prefix.
Prefix open_prefix(const Bundle& bundle, OnnxSession& session, const TokenIds& token_ids, std::optional<Prefix> kept,
                   const Warn& warn = {});

}  // namespace rubricrm
