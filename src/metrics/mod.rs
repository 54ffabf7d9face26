//! Prometheus counters and histograms, from records.
