// cookiefs: builds the objects of one mount and serves it. Exit status: 0, 1 failure, 2 usage.
//
// The only place that knows all parts; there are no globals but spdlog's logger.

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "cache/base/check.h"
#include "cache/base/clock.h"
#include "cache/mm/pressure_sampler.h"
#include "fusefs/backends/backend.h"
#include "fusefs/log.h"
#include "fusefs/mount.h"
#include "fusefs/options.h"
#include "fusefs/session.h"

namespace {

constexpr int kExitUsage = 2;

int fail(const std::string& error, int status = EXIT_FAILURE) {
  std::fprintf(stderr, "cookiefs: %s\n", error.c_str());
  return status;
}

// Requests and answers that carry file data, up to a MiB each, come and go by the hundred a second.
// Each would get pages of its own from the system, to be faulted in one by one; half of the time of
// reading a file went there. Instead malloc keeps up to 16 MiB of what is freed, in each of its
// arenas.
void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kOwnMapping = 4 << 20;  // beyond the largest
  constexpr int kKept = 16 << 20;
  mallopt(M_MMAP_THRESHOLD, kOwnMapping);
  mallopt(M_TRIM_THRESHOLD, kKept);
#endif
}

fusefs::Options with_chosen_size(fusefs::Options options) {
  if (!options.cache_size_auto) return options;
  const cache::RealClock clock;
  fusefs::choose_cache_size(cache::SystemPressureSampler(clock).sample().rooms, &options);
  spdlog::info("cache_size=auto: {} MiB", options.cache_size >> 20);
  return options;
}

// From the back end to the end of the mount. `background` has started, or never will.
int serve(const fusefs::Options& options, fusefs::Background* background) {
  fusefs::Log log(options.debug ? "debug" : options.log_level);
  std::string error;
  auto backend = fusefs::make_backend(options.source, options.backend_options, &error);
  if (!backend) return fail(error);
  auto root = backend->connect(&error);
  if (!root.ok()) return fail(error);

  const std::string source = backend->description();
  if (options.remote_locks == fusefs::RemoteLocks::kAlways && !backend->has_locks()) {
    return fail("locks=remote: " + source +
                " has no locks for us; only local directories and NFS version 4 do (locks=mount "
                "keeps them within this mount)");
  }
  const fusefs::Options chosen = with_chosen_size(options);
  fusefs::Session session(chosen, std::move(backend), std::move(root).value());
  if (!session.mount(&error)) return fail(error);
  const int status = session.run([&] {
    if (!options.foreground) {
      log.to_syslog();
      background->ready();
    }
    const std::string url = session.metrics_url();
    spdlog::info("{} mounted at {}, cache of {} MiB{}{}", source, options.mountpoint,
                 chosen.cache_size >> 20, url.empty() ? "" : ", metrics at ", url);
  });
  return status;
}

int run(int argc, char* argv[]) {
  fusefs::open_standard_files();
  keep_freed_memory();
  fusefs::Options options;
  std::string error;
  if (!fusefs::parse_options(argc, argv, fusefs::backend_option_specs, &options, &error)) {
    return fail(error, kExitUsage);
  }
  if (options.show_help) {
    std::fputs(fusefs::help_text().c_str(), stdout);
    return EXIT_SUCCESS;
  }
  if (options.show_version) {
    std::printf("%slibfuse %s\n", fusefs::version_text().c_str(),
                fusefs::libfuse_version().c_str());
    return EXIT_SUCCESS;
  }
  if (!options.mount_namespace.empty() &&
      !fusefs::enter_mount_namespace(options.mount_namespace, &error)) {
    return fail(error);
  }
  if (!options.check_only && fusefs::clear_dead_mount(options.mountpoint)) {
    std::fprintf(stderr, "cookiefs: %s: cleared away the mount of a cookiefs that had died\n",
                 options.mountpoint.c_str());
  }
  if (!fusefs::check_mountpoint(options.mountpoint, &options.mountpoint, &error)) {
    return fail(error);
  }
  if (options.check_only) return EXIT_SUCCESS;

  // The fork comes before anything that may start a thread, a back end above all.
  fusefs::Background background;
  if (!options.foreground) {
    if (const auto status = background.start()) return *status;
  }
  return serve(options, &background);
}

}  // namespace

int main(int argc, char* argv[]) {
  cache::abort_when_heap_is_exhausted();
  try {
    return run(argc, argv);
  } catch (const std::exception& exception) {
    return fail(exception.what());
  }
}
