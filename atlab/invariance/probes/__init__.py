"""Is a factor still in the features? Linear and MLP probes."""
