#include "runtime/prefix.h"

#include <algorithm>

#include "error.h"
#include "runtime/row_summary.h"

namespace rubricrm {
namespace {

// The bundle's own file for a session's type of cache; none: the cache directory has it.
std::optional<fs::path> own_file(const Bundle& bundle, const OnnxSession& session) {
  const auto& files = bundle.manifest().prompt().prefix.files;
  const auto found = files.find(session.facts().kv_type);
  return found == files.end() ? std::nullopt : std::optional<fs::path>(bundle.file(found->second));
}

fs::path cached_file(const Bundle& bundle, const OnnxSession& session) {
  return session.cache().own(fs::path(bundle.manifest_sha256()) / session.cache_key()) /
         prefix_file_name(bundle.manifest().prompt_name(), session.facts().kv_type);
}

std::optional<Prefix> load_cached(const fs::path& path, const Bundle& bundle, const KvType& type, const Warn& warn) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  try {
    return Prefix::load(path, bundle.manifest().model, type, true);
  } catch (const Error& failed) {
    tell(warn, std::string("computing the prefix again: ") + failed.what());
    return std::nullopt;
  }
}

}  // namespace

Prefix compute_prefix(const Bundle& bundle, OnnxSession& session, const TokenIds& token_ids) {
  const std::string& name = session.facts().kv_type;
  const auto count = static_cast<int64_t>(token_ids.size());
  const auto slots = session.new_slots(1, count);
  for (int64_t start = 0; start < count; start += session.max_rows()) {
    const int64_t end = std::min(count, start + session.max_rows());
    const TokenIds part(token_ids.begin() + start, token_ids.begin() + end);
    // A cache of integers cannot hold NaN, only rounded rubbish: there the logits of every token are looked at.
    const int rows = name == "int8" ? static_cast<int>(part.size()) : 1;
    check_finite(session.step({{slots[0].get(), part, rows}})[0], bundle.manifest().tokenizer.num_tokens);
  }
  Prefix prefix(token_ids, session.positions(*slots[0], count));
  const KvType& type = kv_type(name);
  if (const int64_t found = count_not_finite(type, prefix.bytes())) {
    const auto total = static_cast<int64_t>(prefix.bytes().size()) / type.size;
    throw Error(Code::OUTPUT_INVALID,
                "the prefix: " + std::to_string(found) + " of " + std::to_string(total) +
                    " keys and values are not finite, expected numbers. The model's weights hold NaN or infinity, or "
                    "exceed the range of " +
                    name +
                    ". Export it again with another type of the KV cache, or from sound "
                    "weights.");
  }
  return prefix;
}

std::optional<Prefix> kept_prefix(const Bundle& bundle, const OnnxSession& session, const Warn& warn) {
  const KvType& type = kv_type(session.facts().kv_type);
  if (const auto own = own_file(bundle, session)) {
    return Prefix::load(*own, bundle.manifest().model, type, false);
  }
  if (bundle.manifest().prompt().prefix.num_tokens == 0) return std::nullopt;
  try {
    return load_cached(cached_file(bundle, session), bundle, type, warn);
  } catch (const FileError& error) {
    tell(warn, session.cache().without(error));
    return std::nullopt;
  }
}

Prefix open_prefix(const Bundle& bundle, OnnxSession& session, const TokenIds& token_ids, std::optional<Prefix> kept,
                   const Warn& warn) {
  if (kept) {
    if (kept->token_ids() == token_ids) return std::move(*kept);
    const char* const problem = ": holds the keys and values of other tokens. Export the bundle again.";
    if (const auto own = own_file(bundle, session)) throw Error(Code::BUNDLE_INVALID, own->string() + problem);
    tell(warn, "computing the prefix again: the cached file" + std::string(problem));
  }
  Prefix prefix = compute_prefix(bundle, session, token_ids);
  fs::path path;
  try {
    path = cached_file(bundle, session);
  } catch (const FileError& error) {
    tell(warn, session.cache().without(error));
    return prefix;
  }
  try {
    prefix.save(path, bundle.manifest().model, kv_type(session.facts().kv_type));
  } catch (const FileError& error) {
    tell(warn, std::string("the prefix could not be kept (") + error.what() + "): the next opening computes it again");
  }
  return prefix;
}

}  // namespace rubricrm
