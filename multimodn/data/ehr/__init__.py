"""Health records in the formats of the field (MEDS, OMOP, FHIR), read to the long tables that every kind reads."""
