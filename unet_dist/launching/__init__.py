"""From a command to ranks at work: where they shall run, one attempt after another, and what is
said of it."""
