#include "cli/process/process_metrics.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "base/log_limit.h"
#include "cli/process/process_setup.h"
#include "network/descriptor_shares.h"
#include "prometheus/client_metric.h"
#include "prometheus/metric_family.h"

namespace sheaf {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Single(const char* name, const char* help, MetricType type, double value) {
  prometheus::ClientMetric metric;
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {name, help, type, {metric}};
}

// Seconds since 1970 at which the machine started; 0: unknown.
double BootTime() {
  std::ifstream stat("/proc/stat");
  for (std::string line; std::getline(stat, line);) {
    if (line.rfind("btime ", 0) == 0) return std::stod(line.substr(6));
  }
  return 0;
}

// Of /proc/self/stat, field 3 (the state) first: the name before it may hold anything.
std::vector<std::string> StatFields() {
  std::ifstream stat("/proc/self/stat");
  std::string text;
  std::getline(stat, text);
  const size_t name_ends = text.rfind(')');
  if (name_ends == std::string::npos) return {};
  std::istringstream rest(text.substr(name_ends + 1));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

}  // namespace

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  std::vector<MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type, double value) {
    families.push_back(Single(name, help, type, value));
  };
  const std::vector<std::string> fields = StatFields();
  if (fields.size() > 21) {
    const auto number = [&](size_t field) { return std::stod(fields[field - 3]); };  // as proc(5)
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    add("process_cpu_seconds_total", "CPU time of the process, user and system.",
        MetricType::Counter, (number(14) + number(15)) / ticks);
    add("process_threads", "Threads of the process.", MetricType::Gauge, number(20));
    add("process_virtual_memory_bytes", "Virtual memory.", MetricType::Gauge, number(23));
    add("process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
        number(24) * static_cast<double>(sysconf(_SC_PAGESIZE)));
    if (const double boot = BootTime(); boot > 0) {
      add("process_start_time_seconds", "Start of the process, in seconds since 1970.",
          MetricType::Gauge, boot + number(22) / ticks);
    }
  }
  add("process_open_fds", "Open file descriptors.", MetricType::Gauge,
      static_cast<double>(OpenDescriptors()));
  add("process_max_fds", "The limit on open file descriptors.", MetricType::Gauge,
      static_cast<double>(CurrentDescriptorLimit()));
  add("sheaf_log_lines_dropped_total", "Log lines that stderr did not take.", MetricType::Counter,
      static_cast<double>(DroppedLogLines()));
  add("sheaf_log_lines_suppressed_total", "Log lines that a limit on their kind held back.",
      MetricType::Counter, static_cast<double>(LogLimit::suppressed_total()));
  return families;
}

}  // namespace sheaf
