"""What options there are, what each may be and means: for the check of options, the JSON schema and the reference."""
from basicsr_nriqa.option_definitions.option import Option

__all__ = ['Option']
