"""Engines without secrecy: the referees of the others, for tests and reports that say so."""
