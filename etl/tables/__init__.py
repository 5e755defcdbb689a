"""Delta tables: their schemas (`schema`) and two connectors behind one interface (`base`)."""
