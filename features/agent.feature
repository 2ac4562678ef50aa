Feature: An agent
  Your agent is a program: it is asked on its standard input, and finds DOLIBARR_URL and DOLAPIKEY in its environment.
  The one of these scenarios is agent.py, [tool.erp-sandbox.agent] command. What it does once, it may not do always: so
  the first scenario is run three times.

  @erp_sandbox_trials(3)
  Scenario: It makes the customer that it was told of, and nothing else
    When the agent is asked "Chez Gwenaëlle in Quimper wants to buy from us."
    Then the agent answered "Chez Gwenaëlle in Quimper is a customer now."
    And one third party was created with:
      | nom    | Chez Gwenaëlle |
      | town   | Quimper        |
      | client | 1              |
    And nothing else changed

  Scenario: Who is a customer already is not made twice
    When the agent is asked "Café de la Gare in Brest wants to buy from us."
    Then the agent's answer contains "already"
    And nothing changed

  Scenario: Several things at once
    When the agent is asked:
      """
      Crêperie du Port in Roscoff wants to buy from us.
      L'Atelier d'Élodie has moved to Fougères.
      """
    Then the agent answered:
      """
      Crêperie du Port in Roscoff is a customer now.
      L'Atelier d'Élodie is in Fougères now.
      """
    And one third party was created with:
      | nom  | Crêperie du Port |
      | town | Roscoff          |
    And one third party was changed with:
      | nom  | L'Atelier d'Élodie |
      | town | Fougères           |
    And nothing else changed

  Scenario: What it has no right to, it leaves as it is, and says so
    When the agent is asked "From now on, Crêpe au sucre costs 0.01 euros."
    Then the agent's answer contains "I may not do that"
    And nothing changed
