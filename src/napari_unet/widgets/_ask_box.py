"""A question inside a panel, with a name, a choice or a text to give; no window of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets._form import make_combo

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QKeyEvent


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Parameters
    ----------
    words : str
        The question.
    button : str
        What the button says that answers it.
    name : str or None
        What is offered as a name; None = no name is asked for.
    choices : tuple of (str, str)
        What can be chosen: what it means to the program, and what the user reads.
    choice_title, text_title : str
        What stands before the choice and before a free text; without the latter there is none.
    text_hint : str
        What stands in the text as long as it is empty.
    """

    words: str
    button: str
    name: str | None = None
    choices: tuple[tuple[str, str], ...] = ()
    choice_title: str = ""
    text_title: str = ""
    text_hint: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said; what was not asked for is empty."""

    name: str
    choice: str
    text: str


class AskBox(QFrame):
    """Asks one question at a time; hidden until there is one."""

    def __init__(self) -> None:
        super().__init__()
        self._then: Callable[[Answer], None] | None = None
        self._choices: tuple[str, ...] = ()
        self.words = QLabel()
        self.name = QLineEdit()
        self.choice = make_combo((), "")
        self.text = QLineEdit()
        self.ok_button = QPushButton()
        self.cancel_button = QPushButton("Cancel")
        self._titles: dict[QWidget, QLabel] = {
            field: QLabel() for field in (self.name, self.choice, self.text)
        }
        self._lay_out()
        self.ok_button.clicked.connect(self._on_ok)
        self.name.returnPressed.connect(self._on_ok)
        self.text.returnPressed.connect(self._on_ok)
        self.cancel_button.clicked.connect(self.close_question)
        self.hide()

    def _lay_out(self) -> None:
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.cancel_button.setToolTip("Change nothing")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for field, title in self._titles.items():
            form.addRow(title, field)
        buttons = QHBoxLayout()
        buttons.addWidget(self.ok_button)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        # Narrow: the dock is.
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.words)
        layout.addLayout(form)
        layout.addLayout(buttons)

    @property
    def is_open(self) -> bool:
        """Whether a question waits for its answer."""
        return self._then is not None

    def ask(self, question: Question, then: Callable[[Answer], None]) -> None:
        """Show a question instead of the last one; `then` is called with its answer, if one comes.

        Parameters
        ----------
        question : Question
            What is asked.
        then : callable
            Takes the answer. It may ask again.
        """
        self._then = then
        self._choices = tuple(value for value, _ in question.choices)
        self.words.setText(question.words)
        self.ok_button.setText(question.button)
        self.name.setText(question.name or "")
        self.choice.clear()
        self.choice.addItems([words for _, words in question.choices])
        self.text.clear()
        self.text.setPlaceholderText(question.text_hint)
        self._show_field(self.name, "" if question.name is None else "Name")
        self._show_field(self.choice, question.choice_title)
        self._show_field(self.text, question.text_title)
        self.show()
        (self.ok_button if question.name is None else self.name).setFocus()
        self.name.selectAll()

    def close_question(self) -> None:
        """Take the question back; nothing is answered."""
        self._then = None
        self.hide()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Cancel on Escape."""
        if event is not None and event.key() == Qt.Key.Key_Escape:
            self.close_question()
        else:
            super().keyPressEvent(event)

    def _show_field(self, field: QWidget, title: str) -> None:
        for each, label in self._titles.items():
            if each is field:
                each.setAccessibleName(title)
                each.setVisible(bool(title))
                label.setText(title)
                label.setVisible(bool(title))

    def _on_ok(self) -> None:
        then, index = self._then, self.choice.currentIndex()
        if then is None:
            return
        choice = self._choices[index] if 0 <= index < len(self._choices) else ""
        answer = Answer(self.name.text().strip(), choice, self.text.text().strip())
        self.close_question()
        then(answer)
