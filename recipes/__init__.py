"""How the shipped models were made: one package each, outside the wheel."""
