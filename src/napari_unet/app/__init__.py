"""The use cases, headless: what the command line, a notebook and the plugin all call."""
