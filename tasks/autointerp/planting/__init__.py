"""Features with known rules over real text: what explainers and judges are tested on."""
